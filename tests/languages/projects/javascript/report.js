exports.describe = (shape) => `${shape.name}: ${shape.area.toFixed(2)}`;
