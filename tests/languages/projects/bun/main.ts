import { describe } from "./report";
import { Circle, Square, type Shape } from "./shapes.ts";

const shapes: Shape[] = [new Square(3), new Circle(2)];
for (const shape of shapes) console.log(describe(shape));
