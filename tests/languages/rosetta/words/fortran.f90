program words
  implicit none
  type :: entry
    character(len=32) :: word = ''
    integer :: count = 0
  end type entry
  type(entry) :: entries(1000)
  character(len=200) :: line
  integer :: used, status, start, stop_at, index

  used = 0
  do
    read (*, '(a)', iostat=status) line
    if (status /= 0) exit
    call lower(line)
    stop_at = 0
    do
      start = scan(line(stop_at + 1:), 'abcdefghijklmnopqrstuvwxyz') + stop_at
      if (start == stop_at) exit
      stop_at = verify(line(start:)//' ', 'abcdefghijklmnopqrstuvwxyz') + start - 2
      call count_word(line(start:stop_at))
    end do
  end do

  call sort()
  do index = 1, min(used, 10)
    print '(i0,1x,a)', entries(index)%count, trim(entries(index)%word)
  end do

contains

  subroutine lower(text)
    character(len=*), intent(inout) :: text
    integer :: position
    do position = 1, len(text)
      if (text(position:position) >= 'A' .and. text(position:position) <= 'Z') then
        text(position:position) = achar(iachar(text(position:position)) + 32)
      end if
    end do
  end subroutine lower

  subroutine count_word(word)
    character(len=*), intent(in) :: word
    integer :: position
    do position = 1, used
      if (entries(position)%word == word) exit
    end do
    if (position > used) then
      used = position
      entries(position)%word = word
    end if
    entries(position)%count = entries(position)%count + 1
  end subroutine count_word

  subroutine sort()
    type(entry) :: moving
    integer :: outer, inner
    do outer = 2, used
      moving = entries(outer)
      do inner = outer - 1, 1, -1
        if (.not. before(moving, entries(inner))) exit
        entries(inner + 1) = entries(inner)
      end do
      entries(inner + 1) = moving
    end do
  end subroutine sort

  logical function before(a, b)
    type(entry), intent(in) :: a, b
    before = a%count > b%count .or. (a%count == b%count .and. a%word < b%word)
  end function before

end program words
