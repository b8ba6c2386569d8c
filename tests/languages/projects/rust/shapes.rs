use std::f64::consts::PI;

pub trait Shape {
    fn name(&self) -> &'static str;
    fn area(&self) -> f64;
}

pub struct Square(pub f64);

pub struct Circle(pub f64);

impl Shape for Square {
    fn name(&self) -> &'static str {
        "square"
    }

    fn area(&self) -> f64 {
        self.0 * self.0
    }
}

impl Shape for Circle {
    fn name(&self) -> &'static str {
        "circle"
    }

    fn area(&self) -> f64 {
        PI * self.0 * self.0
    }
}
