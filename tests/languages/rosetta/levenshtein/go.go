package main

import "fmt"

func smallest(first int, others ...int) int {
	for _, other := range others {
		if other < first {
			first = other
		}
	}
	return first
}

func distance(source, target string) int {
	previous := make([]int, len(target)+1)
	for column := range previous {
		previous[column] = column
	}
	for row := range source {
		current := []int{row + 1}
		for column := range target {
			replaced := previous[column]
			if source[row] != target[column] {
				replaced++
			}
			current = append(current, smallest(replaced, previous[column+1]+1, current[column]+1))
		}
		previous = current
	}
	return previous[len(target)]
}

func main() {
	for {
		var source, target string
		if _, err := fmt.Scan(&source, &target); err != nil {
			return
		}
		fmt.Println(source, target, distance(source, target))
	}
}
