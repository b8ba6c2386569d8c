package main

import "fmt"

const limit = 100_000

func main() {
	var composite [limit]bool
	var primes []int
	for number := 2; number < limit; number++ {
		if composite[number] {
			continue
		}
		primes = append(primes, number)
		for multiple := number * number; multiple < limit; multiple += number {
			composite[multiple] = true
		}
	}

	for index, prime := range primes {
		if prime > 100 {
			break
		}
		if index > 0 {
			fmt.Print(" ")
		}
		fmt.Print(prime)
	}
	fmt.Println()
	fmt.Printf("%d primes below %d, the last is %d\n", len(primes), limit, primes[len(primes)-1])
}
