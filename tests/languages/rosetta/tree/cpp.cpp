#include <algorithm>
#include <iostream>
#include <memory>

struct Node {
    explicit Node(int key) : key(key) {}

    int key;
    std::unique_ptr<Node> left;
    std::unique_ptr<Node> right;
};

void insert(std::unique_ptr<Node>& node, int key) {
    if (!node) {
        node = std::make_unique<Node>(key);
    } else {
        insert(key < node->key ? node->left : node->right, key);
    }
}

void in_order(const std::unique_ptr<Node>& node) {
    if (node) {
        in_order(node->left);
        std::cout << ' ' << node->key;
        in_order(node->right);
    }
}

void pre_order(const std::unique_ptr<Node>& node) {
    if (node) {
        std::cout << ' ' << node->key;
        pre_order(node->left);
        pre_order(node->right);
    }
}

int height(const std::unique_ptr<Node>& node) {
    return node ? 1 + std::max(height(node->left), height(node->right)) : 0;
}

int main() {
    std::unique_ptr<Node> root;
    for (const int key : {50, 30, 70, 20, 40, 60, 80, 35, 45, 65, 63}) {
        insert(root, key);
    }
    std::cout << "in order:";
    in_order(root);
    std::cout << "\npre-order:";
    pre_order(root);
    std::cout << "\nheight: " << height(root) << '\n';
}
