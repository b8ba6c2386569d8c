void main()
{
    ubyte[][] blocks;
    for (;;)
    {
        auto block = new ubyte[16 << 20];
        block[] = 1;
        blocks ~= block;
    }
}
