package main

import "fmt"

type board struct {
	size                     int
	columns, rising, falling map[int]bool
}

func (b *board) solutions(row int) int {
	if row == b.size {
		return 1
	}
	found := 0
	for column := 0; column < b.size; column++ {
		if b.columns[column] || b.rising[row+column] || b.falling[row-column] {
			continue
		}
		b.set(row, column, true)
		found += b.solutions(row + 1)
		b.set(row, column, false)
	}
	return found
}

func (b *board) set(row, column int, taken bool) {
	b.columns[column], b.rising[row+column], b.falling[row-column] = taken, taken, taken
}

func main() {
	for size := 1; size <= 8; size++ {
		b := board{size, map[int]bool{}, map[int]bool{}, map[int]bool{}}
		fmt.Printf("%d queens: %d\n", size, b.solutions(0))
	}
}
