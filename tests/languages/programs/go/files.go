package main

import (
	"bufio"
	"fmt"
	"log"
	"os"
)

func main() {
	input, err := os.Open("input.txt")
	if err != nil {
		log.Fatal(err)
	}
	defer input.Close()
	output, err := os.Create("output.txt")
	if err != nil {
		log.Fatal(err)
	}
	defer output.Close()

	count := 0
	for lines := bufio.NewScanner(input); lines.Scan(); {
		count++
		fmt.Fprintf(output, "%d: %s\n", count, lines.Text())
	}
	fmt.Println(count, "lines")
}
