package main

import "fmt"

func main() {
	fmt.Println("this is never printed")
	var answer int = "forty-two" // broken here
	fmt.Println(answer)
}
