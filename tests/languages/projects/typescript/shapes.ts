export interface Shape {
  readonly name: string;
  readonly area: number;
}

export class Square implements Shape {
  readonly name = "square";

  constructor(private readonly side: number) {}

  get area(): number {
    return this.side ** 2;
  }
}

export class Circle implements Shape {
  readonly name = "circle";

  constructor(private readonly radius: number) {}

  get area(): number {
    return Math.PI * this.radius ** 2;
  }
}
