import std.algorithm : map, multiSort;
import std.array : array, split;
import std.conv : to;
import std.stdio;

struct Employee
{
    string name, department;
    int salary;

    static Employee parse(string line)
    {
        auto fields = line.split(",");
        return Employee(fields[0], fields[1], fields[2].to!int);
    }
}

void main()
{
    auto employees = stdin.byLineCopy.map!(line => Employee.parse(line)).array;
    employees.multiSort!((a, b) => a.department < b.department, (a, b) => a.salary > b.salary, (a, b) => a.name < b.name);
    foreach (employee; employees)
        with (employee)
            writefln("%-10s %-8s %6d", department, name, salary);
}
