program echo
  implicit none
  character(len=200) :: line
  character(len=:), allocatable :: argument
  integer :: number, length, status

  do number = 1, command_argument_count()
    call get_command_argument(number, length=length)
    allocate (character(len=length) :: argument)
    call get_command_argument(number, argument)
    print '(a,i0,3a)', 'argument ', number, ': [', argument, ']'
    deallocate (argument)
  end do

  number = 0
  do
    read (*, '(a)', iostat=status) line
    if (status /= 0) exit
    number = number + 1
    print '(a,i0,3a)', 'line ', number, ': [', trim(line), ']'
  end do
end program echo
