#include <stdio.h>
#include <stdlib.h>

typedef struct Node {
    int key;
    struct Node *left;
    struct Node *right;
} Node;

static Node *insert(Node *node, int key) {
    if (node == NULL) {
        node = calloc(1, sizeof *node);
        if (node == NULL) {
            perror("calloc");
            exit(EXIT_FAILURE);
        }
        node->key = key;
    } else if (key < node->key) {
        node->left = insert(node->left, key);
    } else {
        node->right = insert(node->right, key);
    }
    return node;
}

static void in_order(const Node *node) {
    if (node != NULL) {
        in_order(node->left);
        printf(" %d", node->key);
        in_order(node->right);
    }
}

static void pre_order(const Node *node) {
    if (node != NULL) {
        printf(" %d", node->key);
        pre_order(node->left);
        pre_order(node->right);
    }
}

static int height(const Node *node) {
    if (node == NULL) {
        return 0;
    }
    int left = height(node->left);
    int right = height(node->right);
    return 1 + (left > right ? left : right);
}

static void release(Node *node) {
    if (node != NULL) {
        release(node->left);
        release(node->right);
        free(node);
    }
}

int main(void) {
    const int keys[] = {50, 30, 70, 20, 40, 60, 80, 35, 45, 65, 63};
    Node *root = NULL;
    for (size_t index = 0; index < sizeof keys / sizeof keys[0]; index++) {
        root = insert(root, keys[index]);
    }
    printf("in order:");
    in_order(root);
    printf("\npre-order:");
    pre_order(root);
    printf("\nheight: %d\n", height(root));
    release(root);
    return 0;
}
