package main

import "fmt"

func main() {
	for _, shape := range []Shape{Square{3}, Circle{2}} {
		fmt.Println(describe(shape))
	}
}
