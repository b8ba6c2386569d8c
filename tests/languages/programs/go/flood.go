package main

import "fmt"

func main() {
	for number := 1; ; number++ {
		fmt.Println("line", number)
	}
}
