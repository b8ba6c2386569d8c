struct Node {
    key: i32,
    left: Tree,
    right: Tree,
}

#[derive(Default)]
struct Tree(Option<Box<Node>>);

impl Tree {
    fn insert(&mut self, key: i32) {
        match &mut self.0 {
            None => {
                self.0 = Some(Box::new(Node { key, left: Tree::default(), right: Tree::default() }));
            }
            Some(node) if key < node.key => node.left.insert(key),
            Some(node) => node.right.insert(key),
        }
    }

    fn in_order(&self, visit: &mut impl FnMut(i32)) {
        if let Some(node) = &self.0 {
            node.left.in_order(visit);
            visit(node.key);
            node.right.in_order(visit);
        }
    }

    fn pre_order(&self, visit: &mut impl FnMut(i32)) {
        if let Some(node) = &self.0 {
            visit(node.key);
            node.left.pre_order(visit);
            node.right.pre_order(visit);
        }
    }

    fn height(&self) -> usize {
        match &self.0 {
            None => 0,
            Some(node) => 1 + node.left.height().max(node.right.height()),
        }
    }
}

fn main() {
    let mut tree = Tree::default();
    for key in [50, 30, 70, 20, 40, 60, 80, 35, 45, 65, 63] {
        tree.insert(key);
    }
    print!("in order:");
    tree.in_order(&mut |key| print!(" {}", key));
    print!("\npre-order:");
    tree.pre_order(&mut |key| print!(" {}", key));
    println!("\nheight: {}", tree.height());
}
