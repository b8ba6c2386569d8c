program line_numbers
  implicit none
  character(len=200) :: line
  integer :: input, output, count, status

  open (newunit=input, file='input.txt', status='old', action='read')
  open (newunit=output, file='output.txt', status='replace', action='write')
  count = 0
  do
    read (input, '(a)', iostat=status) line
    if (status /= 0) exit
    count = count + 1
    write (output, '(i0,2a)') count, ': ', trim(line)
  end do
  close (input)
  close (output)
  print '(i0,a)', count, ' lines'
end program line_numbers
