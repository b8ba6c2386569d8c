package main

import "fmt"

func describe(shape Shape) string {
	return fmt.Sprintf("%s: %.2f", shape.Name(), shape.Area())
}
