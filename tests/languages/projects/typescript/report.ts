import type { Shape } from "./shapes";

export const describe = (shape: Shape): string => `${shape.name}: ${shape.area.toFixed(2)}`;
