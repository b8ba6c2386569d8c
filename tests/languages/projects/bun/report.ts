import type { Shape } from "./shapes.ts";

export const describe = (shape: Shape) => `${shape.name}: ${shape.area().toFixed(2)}`;
