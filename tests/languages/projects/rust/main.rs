mod report;
mod shapes;

use shapes::{Circle, Shape, Square};

fn main() {
    let shapes: Vec<Box<dyn Shape>> = vec![Box::new(Square(3.0)), Box::new(Circle(2.0))];
    for shape in &shapes {
        println!("{}", report::describe(shape.as_ref()));
    }
}
