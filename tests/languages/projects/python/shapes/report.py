def describe(shape):
    return f"{shape.name}: {shape.area():.2f}"
