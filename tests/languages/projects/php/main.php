<?php
require 'shapes.php';
require 'report.php';

foreach ([new Square(3), new Circle(2)] as $shape) {
    echo describe($shape), "\n";
}
