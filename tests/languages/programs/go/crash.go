package main

import "fmt"

func divide(dividend, divisor int) int {
	if divisor == 0 {
		panic("boom")
	}
	return dividend / divisor
}

func main() {
	fmt.Println("before")
	divide(1, 0)
	fmt.Println("after")
}
