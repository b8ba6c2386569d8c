package main

import (
	"fmt"
	"time"
)

func main() {
	fmt.Println("started")
	for range time.Tick(time.Second) {
	}
}
