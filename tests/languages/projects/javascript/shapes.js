class Square {
  name = "square";

  constructor(side) {
    this.side = side;
  }

  get area() {
    return this.side ** 2;
  }
}

class Circle {
  name = "circle";

  constructor(radius) {
    this.radius = radius;
  }

  get area() {
    return Math.PI * this.radius ** 2;
  }
}

module.exports = { Circle, Square };
