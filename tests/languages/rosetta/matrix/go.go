package main

import (
	"fmt"
	"strings"
)

type matrix [][]int

func (left matrix) times(right matrix) matrix {
	result := make(matrix, len(left))
	for row := range left {
		result[row] = make([]int, len(right[0]))
		for column := range right[0] {
			for index, value := range left[row] {
				result[row][column] += value * right[index][column]
			}
		}
	}
	return result
}

func main() {
	answer := matrix{{1, 2, 3}, {4, 5, 6}}.times(matrix{{7, 8}, {9, 10}, {11, 12}})
	for _, row := range answer {
		fmt.Println(strings.Trim(fmt.Sprint(row), "[]"))
	}

	power := matrix{{1, 0}, {0, 1}}
	for count := 0; count < 70; count++ {
		power = power.times(matrix{{1, 1}, {1, 0}})
	}
	fmt.Println("fibonacci(70) =", power[0][1])
}
