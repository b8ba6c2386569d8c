#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    char name[16];
    char department[16];
    int salary;
} Employee;

static int compare(const void *left, const void *right) {
    const Employee *a = left;
    const Employee *b = right;
    int order = strcmp(a->department, b->department);
    if (order == 0) {
        order = (b->salary > a->salary) - (b->salary < a->salary);
    }
    return order != 0 ? order : strcmp(a->name, b->name);
}

int main(void) {
    Employee employees[100];
    size_t count = 0;
    while (count < 100 && scanf(" %15[^,],%15[^,],%d", employees[count].name, employees[count].department,
                                &employees[count].salary) == 3) {
        count++;
    }
    qsort(employees, count, sizeof employees[0], compare);
    for (size_t index = 0; index < count; index++) {
        printf("%-10s %-8s %6d\n", employees[index].department, employees[index].name, employees[index].salary);
    }
    return 0;
}
