use std::cmp::Reverse;
use std::io;

struct Employee {
    name: String,
    department: String,
    salary: u32,
}

fn parse(line: &str) -> Option<Employee> {
    let mut fields = line.split(',');
    Some(Employee {
        name: fields.next()?.to_string(),
        department: fields.next()?.to_string(),
        salary: fields.next()?.parse().ok()?,
    })
}

fn main() -> io::Result<()> {
    let mut employees = Vec::new();
    for line in io::stdin().lines() {
        employees.push(parse(&line?).expect("a line has a name, a department and a salary"));
    }
    employees.sort_by(|a, b| {
        (&a.department, Reverse(a.salary), &a.name).cmp(&(&b.department, Reverse(b.salary), &b.name))
    });
    for Employee { name, department, salary } in &employees {
        println!("{:<10} {:<8} {:>6}", department, name, salary);
    }
    Ok(())
}
