<?php
interface Shape
{
    public function name(): string;

    public function area(): float;
}

final class Square implements Shape
{
    public function __construct(private float $side)
    {
    }

    public function name(): string
    {
        return 'square';
    }

    public function area(): float
    {
        return $this->side ** 2;
    }
}

final class Circle implements Shape
{
    public function __construct(private float $radius)
    {
    }

    public function name(): string
    {
        return 'circle';
    }

    public function area(): float
    {
        return M_PI * $this->radius ** 2;
    }
}
