<?php
function describe(Shape $shape): string
{
    return sprintf('%s: %.2f', $shape->name(), $shape->area());
}
