package main

import (
	"bufio"
	"fmt"
	"os"
)

func main() {
	for index, argument := range os.Args[1:] {
		fmt.Printf("argument %d: [%s]\n", index+1, argument)
	}
	lines := bufio.NewScanner(os.Stdin)
	for number := 1; lines.Scan(); number++ {
		fmt.Printf("line %d: [%s]\n", number, lines.Text())
	}
}
