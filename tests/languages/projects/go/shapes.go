package main

import "math"

// Shape has a name and an area.
type Shape interface {
	Name() string
	Area() float64
}

// Square is a square with a side.
type Square struct{ side float64 }

// Name is what it is.
func (Square) Name() string { return "square" }

// Area is the square of the side.
func (s Square) Area() float64 { return s.side * s.side }

// Circle is a circle with a radius.
type Circle struct{ radius float64 }

// Name is what it is.
func (Circle) Name() string { return "circle" }

// Area is pi times the square of the radius.
func (c Circle) Area() float64 { return math.Pi * c.radius * c.radius }
