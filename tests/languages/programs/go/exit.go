package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Println("leaving")
	fmt.Fprintln(os.Stderr, "so long")
	os.Exit(7)
}
