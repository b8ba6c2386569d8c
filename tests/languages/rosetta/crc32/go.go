package main

import (
	"bufio"
	"fmt"
	"hash/crc32"
	"os"
)

func main() {
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		fmt.Printf("%08x\n", crc32.ChecksumIEEE(lines.Bytes()))
	}
}
