package main

import "fmt"

const (
	workers = 4
	limit   = 100_000
)

func sumOfSquares(first int) (sum int) {
	for n := first; n <= limit; n += workers {
		sum += n * n
	}
	return sum
}

func main() {
	parts := make(chan int)
	for first := 1; first <= workers; first++ {
		go func(first int) { parts <- sumOfSquares(first) }(first)
	}
	total := 0
	for range [workers]struct{}{} {
		total += <-parts
	}
	fmt.Printf("%d workers, total %d\n", workers, total)
}
