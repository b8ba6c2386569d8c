package main

import (
	"fmt"
	"log"
	"os"
	"unicode/utf8"
)

func main() {
	greeting := "Grüße, 世界 🌍"
	fmt.Println(greeting)
	fmt.Println(utf8.RuneCountInString(greeting), "code points")
	if err := os.WriteFile("grüße 世界.txt", []byte(greeting+"\n"), 0o644); err != nil {
		log.Fatal(err)
	}
}
