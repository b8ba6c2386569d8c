module report;

import shapes : Shape;
import std.format : format;

string describe(const Shape shape)
{
    return format("%s: %.2f", shape.name, shape.area);
}
