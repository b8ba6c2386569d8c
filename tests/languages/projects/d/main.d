import report : describe;
import shapes : Circle, Shape, Square;
import std.stdio : writeln;

void main()
{
    Shape[] all;
    all ~= new Square(3);
    all ~= new Circle(2);
    foreach (shape; all)
        writeln(describe(shape));
}
