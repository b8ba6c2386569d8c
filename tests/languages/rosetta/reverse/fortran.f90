program reverse
  implicit none
  character(len=200) :: line
  integer :: status

  do
    read (*, '(a)', iostat=status) line
    if (status /= 0) exit
    print '(a)', reversed(trim(line))
  end do

contains

  function reversed(text)
    character(len=*), intent(in) :: text
    character(len=len(text)) :: reversed
    integer :: start, finish, placed

    placed = 0
    finish = len(text)
    do while (finish > 0)
      ! Go back to the first byte of the code point: the others begin with the bits 10.
      start = finish
      do while (iand(iachar(text(start:start)), 192) == 128)
        start = start - 1
      end do
      reversed(placed + 1:placed + finish - start + 1) = text(start:finish)
      placed = placed + finish - start + 1
      finish = start - 1
    end do
  end function reversed

end program reverse
