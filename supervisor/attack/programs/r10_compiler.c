/* Never run: the assembler counts to two to the sixtieth, in very little memory. */
__asm__(".macro again n\n .if \\n\n again (\\n-1)\n again (\\n-1)\n .endif\n .endm\n again 60");

int main(void) { return 0; }
