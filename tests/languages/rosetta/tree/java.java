import java.util.StringJoiner;
import java.util.function.Consumer;

public class Tree<K extends Comparable<K>> {
    private final K key;
    private Tree<K> left;
    private Tree<K> right;

    Tree(K key) {
        this.key = key;
    }

    static <K extends Comparable<K>> Tree<K> insert(Tree<K> tree, K key) {
        if (tree == null) {
            return new Tree<>(key);
        }
        if (key.compareTo(tree.key) < 0) {
            tree.left = insert(tree.left, key);
        } else {
            tree.right = insert(tree.right, key);
        }
        return tree;
    }

    static <K extends Comparable<K>> void inOrder(Tree<K> tree, Consumer<K> visit) {
        if (tree != null) {
            inOrder(tree.left, visit);
            visit.accept(tree.key);
            inOrder(tree.right, visit);
        }
    }

    static <K extends Comparable<K>> void preOrder(Tree<K> tree, Consumer<K> visit) {
        if (tree != null) {
            visit.accept(tree.key);
            preOrder(tree.left, visit);
            preOrder(tree.right, visit);
        }
    }

    static int height(Tree<?> tree) {
        return tree == null ? 0 : 1 + Math.max(height(tree.left), height(tree.right));
    }

    public static void main(String[] arguments) {
        Tree<Integer> root = null;
        for (int key : new int[] {50, 30, 70, 20, 40, 60, 80, 35, 45, 65, 63}) {
            root = insert(root, key);
        }
        StringJoiner inOrder = new StringJoiner(" ", "in order: ", "");
        inOrder(root, key -> inOrder.add(key.toString()));
        StringJoiner preOrder = new StringJoiner(" ", "pre-order: ", "");
        preOrder(root, key -> preOrder.add(key.toString()));
        System.out.println(inOrder);
        System.out.println(preOrder);
        System.out.println("height: " + height(root));
    }
}
