package main

import (
	"bufio"
	"fmt"
	"os"
)

type grid [][]byte

func (g grid) neighbours(row, column int) (count int) {
	height, width := len(g), len(g[0])
	for down := -1; down <= 1; down++ {
		for right := -1; right <= 1; right++ {
			if (down != 0 || right != 0) && g[(row+down+height)%height][(column+right+width)%width] == '#' {
				count++
			}
		}
	}
	return count
}

func (g grid) step() grid {
	next := make(grid, len(g))
	for row, line := range g {
		next[row] = make([]byte, len(line))
		for column, cell := range line {
			around := g.neighbours(row, column)
			next[row][column] = '.'
			if around == 3 || around == 2 && cell == '#' {
				next[row][column] = '#'
			}
		}
	}
	return next
}

func main() {
	var cells grid
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		cells = append(cells, []byte(lines.Text()))
	}
	for generation := 0; generation < 12; generation++ {
		cells = cells.step()
	}
	for _, row := range cells {
		fmt.Println(string(row))
	}
}
