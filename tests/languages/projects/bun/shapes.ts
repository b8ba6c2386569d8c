export interface Shape {
  name: string;
  area(): number;
}

export class Square implements Shape {
  name = "square";

  constructor(private side: number) {}

  area() {
    return this.side ** 2;
  }
}

export class Circle implements Shape {
  name = "circle";

  constructor(private radius: number) {}

  area() {
    return Math.PI * this.radius ** 2;
  }
}
