package main

import "fmt"

type node struct {
	key         int
	left, right *node
}

func (n *node) insert(key int) *node {
	switch {
	case n == nil:
		return &node{key: key}
	case key < n.key:
		n.left = n.left.insert(key)
	default:
		n.right = n.right.insert(key)
	}
	return n
}

func (n *node) inOrder(visit func(int)) {
	if n != nil {
		n.left.inOrder(visit)
		visit(n.key)
		n.right.inOrder(visit)
	}
}

func (n *node) preOrder(visit func(int)) {
	if n != nil {
		visit(n.key)
		n.left.preOrder(visit)
		n.right.preOrder(visit)
	}
}

func (n *node) height() int {
	if n == nil {
		return 0
	}
	left, right := n.left.height(), n.right.height()
	if left > right {
		return left + 1
	}
	return right + 1
}

func main() {
	var root *node
	for _, key := range []int{50, 30, 70, 20, 40, 60, 80, 35, 45, 65, 63} {
		root = root.insert(key)
	}
	show := func(key int) { fmt.Print(" ", key) }
	fmt.Print("in order:")
	root.inOrder(show)
	fmt.Print("\npre-order:")
	root.preOrder(show)
	fmt.Println("\nheight:", root.height())
}
