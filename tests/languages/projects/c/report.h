#ifndef REPORT_H
#define REPORT_H

void describe(const char *name, double area);

#endif
