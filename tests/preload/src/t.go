// The ways in which Go programs use the network. Arguments: what to do, server.
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

func try(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func main() {
	server := os.Args[2]
	b := make([]byte, 16)
	switch os.Args[1] {
	case "http":
		r, err := http.Get("http://" + server + "/")
		try(err)
		_, err = io.Copy(io.Discard, r.Body)
		try(err)
	case "udp":
		c, err := net.Dial("udp", server+":7")
		try(err)
		c.SetDeadline(time.Now().Add(5 * time.Second))
		_, err = c.Write([]byte("hi"))
		try(err)
		_, err = c.Read(b)
		try(err)
	case "packet":
		c, err := net.ListenPacket("udp4", ":0")
		try(err)
		c.SetDeadline(time.Now().Add(5 * time.Second))
		to, err := net.ResolveUDPAddr("udp4", server+":7")
		try(err)
		_, err = c.WriteTo([]byte("hi"), to)
		try(err)
		_, _, err = c.ReadFrom(b)
		try(err)
	}
	fmt.Println("ok")
}
