import report : describe;
import shapes : Circle, Shape, Square;
import std.stdio : writeln;

void main()
{
    Shape[] all = [new Square(3), new Circle(2)];
    foreach (shape; all)
        writeln(describe(shape));
}
