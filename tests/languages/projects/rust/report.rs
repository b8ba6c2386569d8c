use crate::shapes::Shape;

pub fn describe(shape: &dyn Shape) -> String {
    format!("{}: {:.2}", shape.name(), shape.area())
}
