package main

import (
	"fmt"
	"math/big"
)

func main() {
	for _, number := range []int64{5, 25, 50} {
		fmt.Printf("%d! = %s\n", number, new(big.Int).MulRange(1, number))
	}
}
