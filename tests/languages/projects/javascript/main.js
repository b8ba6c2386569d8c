const { Circle, Square } = require("./shapes");
const { describe } = require("./report.js");

for (const shape of [new Square(3), new Circle(2)]) console.log(describe(shape));
