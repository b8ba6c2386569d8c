class Tree<T> {
  private left?: Tree<T>;
  private right?: Tree<T>;

  constructor(private readonly key: T) {}

  insert(key: T): void {
    const side = key < this.key ? "left" : "right";
    const child = this[side];
    if (child === undefined) this[side] = new Tree(key);
    else child.insert(key);
  }

  *inOrder(): Iterable<T> {
    if (this.left) yield* this.left.inOrder();
    yield this.key;
    if (this.right) yield* this.right.inOrder();
  }

  *preOrder(): Iterable<T> {
    yield this.key;
    if (this.left) yield* this.left.preOrder();
    if (this.right) yield* this.right.preOrder();
  }

  get height(): number {
    return 1 + Math.max(this.left?.height ?? 0, this.right?.height ?? 0);
  }
}

const tree = new Tree(50);
for (const key of [30, 70, 20, 40, 60, 80, 35, 45, 65, 63]) tree.insert(key);
console.log("in order:", ...tree.inOrder());
console.log("pre-order:", ...tree.preOrder());
console.log("height:", tree.height);
