<?php
final class Node
{
    public ?Node $left = null;
    public ?Node $right = null;

    public function __construct(public int $key)
    {
    }

    public function insert(int $key): void
    {
        $side = $key < $this->key ? 'left' : 'right';
        if ($this->$side === null) {
            $this->$side = new Node($key);
        } else {
            $this->$side->insert($key);
        }
    }

    public function inOrder(): array
    {
        return [...$this->left?->inOrder() ?? [], $this->key, ...$this->right?->inOrder() ?? []];
    }

    public function preOrder(): array
    {
        return [$this->key, ...$this->left?->preOrder() ?? [], ...$this->right?->preOrder() ?? []];
    }

    public function height(): int
    {
        return 1 + max($this->left?->height() ?? 0, $this->right?->height() ?? 0);
    }
}

$root = new Node(50);
array_map($root->insert(...), [30, 70, 20, 40, 60, 80, 35, 45, 65, 63]);
echo 'in order: ', implode(' ', $root->inOrder()), "\n";
echo 'pre-order: ', implode(' ', $root->preOrder()), "\n";
echo 'height: ', $root->height(), "\n";
