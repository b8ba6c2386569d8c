package main

import (
	"bufio"
	"fmt"
	"os"
)

func main() {
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		runes := []rune(lines.Text())
		for left, right := 0, len(runes)-1; left < right; left, right = left+1, right-1 {
			runes[left], runes[right] = runes[right], runes[left]
		}
		fmt.Println(string(runes))
	}
}
