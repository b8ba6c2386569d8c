module shapes;

import std.math : PI;

interface Shape
{
    string name() const;
    double area() const;
}

class Square : Shape
{
    private double side;

    this(double side)
    {
        this.side = side;
    }

    string name() const
    {
        return "square";
    }

    double area() const
    {
        return side * side;
    }
}

class Circle : Shape
{
    private double radius;

    this(double radius)
    {
        this.radius = radius;
    }

    string name() const
    {
        return "circle";
    }

    double area() const
    {
        return PI * radius * radius;
    }
}
